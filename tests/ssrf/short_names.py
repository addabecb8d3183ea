"""`tocsin serve` that keeps a name's addresses for five seconds: the end of that is seen sooner."""

from tocsin.cli import main
from tocsin.net.resolver import Resolver

CACHE_SECONDS = 5.0

if __name__ == "__main__":
    defaults = Resolver.__init__.__kwdefaults__
    assert defaults is not None
    assert "ttl_seconds" in defaults
    defaults["ttl_seconds"] = CACHE_SECONDS
    main()
