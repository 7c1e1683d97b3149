"""How runs and tables are shown: on a terminal, as a page, as SQL for other systems. Nothing is decided here.

What is shown is handed in as values or read from finished runs' records; nothing here scores, commits or changes a
table.
"""
