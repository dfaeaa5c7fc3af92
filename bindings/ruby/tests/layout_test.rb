# frozen_string_literal: true

require_relative "helper"

# Structs and constants against the header, by a C compiler.
class LayoutTest < Minitest::Test
  include Helper

  L = Grate::Layouts
  C = Grate::Constants
  STRUCTS = { error: L::Error, engine_config: L::EngineConfig, metrics: L::Metrics, quota_state: L::QuotaState,
              provider_state: L::ProviderState, request: L::Request, candidate: L::Candidate, decision: L::Decision,
              header: L::Header, response: L::Response, header_quota: L::HeaderQuota,
              header_report: L::HeaderReport }.freeze
  LISTS = { "DIMENSION" => C::DIMENSIONS, "STRATEGY" => C::STRATEGIES, "CIRCUIT" => C::CIRCUITS, "LIMIT" => C::LIMITS,
            "HELD_BY" => [:nothing, *C::HELD_BY.drop(1)], "OUTCOME" => C::OUTCOMES }.freeze

  # What is said here, by C expression.
  def here
    structs = STRUCTS.flat_map do |name, layout|
      [["sizeof(grate_#{name})", layout.size],
       *layout.members.map { |field| ["offsetof(grate_#{name}, #{field})", layout.offset_of(field)] }]
    end
    lists = LISTS.flat_map do |kind, names|
      names.each_with_index.filter_map { |name, i| ["GRATE_#{kind}_#{name.upcase}", i] if name }
    end
    statuses = C.constants.grep(/\A(OK|ERR_.*)\z/).map { |name| ["GRATE_#{name}", C.const_get(name)] }
    others = [["GRATE_VERSION", C::HEADER_VERSION], ["GRATE_ZERO", C::ZERO], ["GRATE_NEVER", C::NEVER],
              ["GRATE_ABSENT", C::ABSENT], ["sizeof(((grate_error *)0)->message)", 504]]
    [*structs, *lists, *statuses, *others].to_h
  end

  def test_layouts_and_constants
    asked = here
    assert_equal asked, compiled(asked.keys)
  end

  # Every field of the header's struct is laid out: the next one would begin at its end.
  def test_nothing_is_left_out
    header = File.read(File.join(ROOT, "include", "grate.h"))
    STRUCTS.each do |name, layout|
      body = header[/typedef struct \{((?:(?!typedef struct).)*?)\} grate_#{name};/m, 1].gsub(%r{/\*.*?\*/}m, "")
      assert_equal body.scan(/(\w+)(?:\[\w+\])?;/).flatten, layout.members.map(&:to_s), name
    end
  end

  def compiled(expressions)
    lines = expressions.map { |asked| "    printf(\"%llu\\n\", (unsigned long long)(#{asked}));" }
    Dir.mktmpdir do |dir|
      source = File.join(dir, "layout.c")
      program = File.join(dir, "layout")
      File.write(source, "#include <stddef.h>\n#include <stdio.h>\n#include <grate.h>\nint main(void)\n{\n" \
                         "#{lines.join("\n")}\n    return 0;\n}\n")
      out, status = Open3.capture2e("cc", "-std=c99", "-I#{ROOT}/include", source, "-o", program)
      assert status.success?, out
      out, = Open3.capture2(program)
      expressions.zip(out.split.map(&:to_i)).to_h
    end
  end
end
