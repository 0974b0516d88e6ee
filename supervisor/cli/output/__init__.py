"""What people see: tables, texts, progress; all of it apart from how it was found."""
