"""The commands of the command line: options in, studies run, words out; no science."""
