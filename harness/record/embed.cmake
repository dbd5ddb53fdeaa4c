# Writes OUTPUT, a header with the text of INPUT as the constant NAME.
file(READ "${INPUT}" text)
file(WRITE "${OUTPUT}" "#pragma once
// Generated from ${FILE}.
namespace draft {
inline constexpr const char* ${NAME} = R\"json(${text})json\";
}  // namespace draft
")
