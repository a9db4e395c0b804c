"""Evidence from a GPU: `make gpu` runs the stages of this package, each with a JSON of its own."""
