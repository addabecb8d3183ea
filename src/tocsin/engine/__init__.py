"""The delivery engine: lanes, dispatcher, settler, worker, janitor."""
