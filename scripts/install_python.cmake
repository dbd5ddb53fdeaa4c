# Run by cmake --install: the Python part. In: `package`, the folder draftattention; `module`, its compiled part, or
# ""; `python`, the build's interpreter, or "".

set(programs report=report capture_video_model=capture)  # scripts/NAME.py=bin/draftbench-WORD
foreach(program ${programs})
  string(REGEX REPLACE "=.*" "" script ${program})
  string(REGEX REPLACE ".*=" "" word ${program})
  file(CREATE_LINK ../share/draftbench/scripts/${script}.py
       "$ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}/bin/draftbench-${word}" SYMBOLIC)
endforeach()

if(EXISTS "${CMAKE_INSTALL_PREFIX}/bin/python3")
  set(python "${CMAKE_INSTALL_PREFIX}/bin/python3")
endif()
if(NOT python)
  message(STATUS "No Python: draftattention and qkv_dump are not installed for import")
  return()
endif()
execute_process(COMMAND "${python}" "${CMAKE_CURRENT_LIST_DIR}/site_folder.py" "${CMAKE_INSTALL_PREFIX}"
                OUTPUT_VARIABLE site OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
file(INSTALL "${package}" DESTINATION "${CMAKE_INSTALL_PREFIX}/${site}" USE_SOURCE_PERMISSIONS
     FILES_MATCHING PATTERN "*.py" PATTERN "*.pyi" PATTERN "py.typed" PATTERN "__pycache__" EXCLUDE)
if(module AND EXISTS "${module}")
  file(INSTALL "${module}" DESTINATION "${CMAKE_INSTALL_PREFIX}/${site}/draftattention" USE_SOURCE_PERMISSIONS)
elseif(module)
  message(STATUS "draftattention's kernels were not built: it computes in PyTorch alone")
endif()
# Python adds each line of a .pth file of a site folder to its path; a relative one counts from that folder.
file(RELATIVE_PATH scripts "${CMAKE_INSTALL_PREFIX}/${site}" "${CMAKE_INSTALL_PREFIX}/share/draftbench/scripts")
file(WRITE "$ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}/${site}/draftbench.pth" "${scripts}\n")
message(STATUS "Python parts: ${CMAKE_INSTALL_PREFIX}/${site}")
