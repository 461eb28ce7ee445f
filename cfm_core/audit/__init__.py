"""The audit trail: every change that somebody has asked for over the API, sealed so that nobody can change it unnoticed."""
