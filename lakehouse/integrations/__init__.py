"""Putting a job's tables and views into catalogs of other systems, for people who query them there.

One file a system; runs know nothing of it. The statements are those of `views.sql`.
"""
