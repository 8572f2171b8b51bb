"""How a stage's process is started, watched and ended, here, on other machines and in shares."""
