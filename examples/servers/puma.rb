# frozen_string_literal: true

workers 4
threads 4, 4
# All workers use the engine that the master has opened, if it has a state file. Without one, each has to make its own.
preload_app! if ENV["STATE_PATH"]
