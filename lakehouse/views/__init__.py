"""How runs and tables are shown: on a terminal, as a page, as SQL for other systems. Nothing is decided here."""
