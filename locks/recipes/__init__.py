"""What can be locked and how: one file a recipe, all of them claims or documents."""
