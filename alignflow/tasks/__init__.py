"""Stage calls: a cached task around each stage body; store, keys and process launch. No torch."""
