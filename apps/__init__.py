"""Example applications: `headwater-origin serve --app live=apps.live:Live --app chat=apps.chat:Chat`."""
