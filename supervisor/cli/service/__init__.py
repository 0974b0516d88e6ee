"""`supervisorctl service`: the daemon as a service of systemd."""
