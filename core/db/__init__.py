"""The database: tables, repositories (all SQL), migrations, row-level security."""
