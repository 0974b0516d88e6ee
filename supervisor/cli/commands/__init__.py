"""The commands about jobs, the policy and the installation."""
