"""The doors: what users type, parsed and handed on. Heavy imports come after parsing, so that --help is instant."""
