# cmake -DROOT=profiles -DOUT=embedded_table.cpp -DLIST="a.json;b.json" -P embed.cmake
# Writes one C++ source that holds the files of LIST (paths below ROOT) as raw strings.
set(text "// Generated from profiles/ by embed.cmake.\n#include \"profiles/presets/embedded_table.h\"\n\n#include <array>\n\n")
string(APPEND text "namespace mmoe {\n\nstd::span<const EmbeddedFile> embedded_table() {\n")
list(LENGTH LIST count)
string(APPEND text "  static constexpr std::array<EmbeddedFile, ${count}> kFiles = {{\n")
foreach(path ${LIST})
  file(READ ${ROOT}/${path} content)
  string(APPEND text "      {\"${path}\", R\"_json_(${content})_json_\"},\n")
endforeach()
string(APPEND text "  }};\n  return kFiles;\n}\n\n}  // namespace mmoe\n")
file(WRITE ${OUT} "${text}")
