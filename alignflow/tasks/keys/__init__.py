"""Keys of stage calls: versions of code, digests of content."""
