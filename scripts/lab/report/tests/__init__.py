"""Tests of the report, and invented records for them (synthetic_*)."""
