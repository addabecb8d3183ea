"""Pages and messages for people, made from templates."""
