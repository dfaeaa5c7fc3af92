workers = 4
threads = 4
# Each worker imports the app, and opens the engine, after the fork.
preload_app = False
