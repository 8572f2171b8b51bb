"""Written things: configs, catalogue, errors, artifacts, records and file formats. No torch and no Prefect."""
