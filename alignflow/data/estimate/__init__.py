"""What a run will need, by arithmetic: shapes of models, memory per process, disk. No torch, no measurement."""
