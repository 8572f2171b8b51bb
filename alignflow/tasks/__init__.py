"""Stage calls: one cached task around one stage body. Store, key, launch and the only @task in the house. No torch."""
