"""The commands: each parses its arguments and calls the library. Slow imports follow the parsing, for a fast --help."""
