"""Results as people see them: what each suite's runs say, in a terminal and on a page."""
