"""The latency benchmark: audio sample in to frame on a browser page, by marks inside the media."""
