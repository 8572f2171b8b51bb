"""The Prefect server and workers of one store on one machine: settings, guarded app, processes, status."""
