# frozen_string_literal: true

# Without a compiler, or without the headers of Ruby, there is nothing to build, and the gem is pure Ruby.
begin
  require "mkmf"
  possible = RUBY_ENGINE == "ruby" && have_header("ruby.h")
rescue LoadError, SystemExit, RuntimeError # mkmf exits if it finds no headers, and raises if it finds no compiler
  possible = false
end

if possible
  create_makefile("grate/grate_fast")
else
  warn "libgrate: not building the optional part in C"
  File.write("Makefile", "all install clean:\n")
end
