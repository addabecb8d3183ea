"""The words of all dialects."""

from tocsin.web.applivery.words import WORDS as APPLIVERY
from tocsin.web.hookstream.words import WORDS as HOOKSTREAM
from tocsin.web.native.words import WORDS as NATIVE

DIALECTS = (NATIVE, APPLIVERY, HOOKSTREAM)
