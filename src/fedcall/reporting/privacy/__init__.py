"""The privacy report of a site and of a study, the audit, the dashboard."""
