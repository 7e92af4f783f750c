"""visavis' engine: sync, clockless, no I/O. Audio in, frames out; ``streaming/`` owns time."""
