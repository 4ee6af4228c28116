"""Everything that needs torch. Imported by the trainer's verbs only, so that naming the plugin costs nothing."""
