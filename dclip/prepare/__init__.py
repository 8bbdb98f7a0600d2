"""What happens before anything heavy is imported: compose, check, plan, fetch."""
