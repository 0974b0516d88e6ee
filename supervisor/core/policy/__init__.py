"""The policy: from readings and jobs to who yields, who comes back and who starts, and why."""
