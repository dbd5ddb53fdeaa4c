# Run by cmake --install: the Python part. In: `package`, the folder draftattention; `module`, its compiled part, or
# ""; `python`, the build's interpreter, or "".

set(bin "$ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}/bin")
foreach(name capture report)  # bin/draftbench-NAME runs lab.NAME
  file(WRITE "${bin}/draftbench-${name}" "#!/usr/bin/env python3
import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', 'share', 'draftbench', 'scripts'))
from lab.${name}.__main__ import main
sys.exit(main())
")
  file(CHMOD "${bin}/draftbench-${name}" PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
       WORLD_READ WORLD_EXECUTE)
endforeach()

if(EXISTS "${CMAKE_INSTALL_PREFIX}/bin/python3")
  set(python "${CMAKE_INSTALL_PREFIX}/bin/python3")
endif()
if(NOT python)
  message(STATUS "No Python: draftattention and qkv_dump are not installed for import")
  return()
endif()
execute_process(COMMAND ${CMAKE_COMMAND} -E env --modify PYTHONPATH=path_list_prepend:${CMAKE_CURRENT_LIST_DIR}
                        "${python}" -m lab.shared.site_folder "${CMAKE_INSTALL_PREFIX}"
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
