# `cmake --install`: bin/lathe, liblathe, its headers under include/lathe (one include folder, so that
# "llm/causal_lm.h" and "kernels/norm.h" are found as in the tree) and the CMake package: find_package(lathe),
# lathe::lathe. With the program come its pages, under share/doc/lathe.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

target_include_directories(lathe PUBLIC
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/modules>
  $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/generated>
  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/lathe>)
target_compile_features(lathe PUBLIC cxx_std_20)

install(TARGETS lathe EXPORT lathe LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET lathe_mpi)
  install(TARGETS lathe_mpi LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
if(TARGET lathe_cli)
  set_target_properties(lathe_cli PROPERTIES INSTALL_RPATH "${LATHE_ORIGIN}/../${CMAKE_INSTALL_LIBDIR}")
  install(TARGETS lathe_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR} FILES_MATCHING PATTERN "*.md")
endif()
install(DIRECTORY modules/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/lathe FILES_MATCHING PATTERN "*.h" PATTERN cli EXCLUDE PATTERN serve EXCLUDE PATTERN mpi EXCLUDE)
install(FILES ${PROJECT_BINARY_DIR}/generated/llm/headers_hash.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/lathe/llm)
install(DIRECTORY kernels DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/lathe FILES_MATCHING PATTERN "*.h")

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/lathe)
file(WRITE ${PROJECT_BINARY_DIR}/latheConfig.cmake [[
include(CMakeFindDependencyMacro)
find_dependency(Threads)
find_dependency(fmt)
find_dependency(nlohmann_json)
include(${CMAKE_CURRENT_LIST_DIR}/latheTargets.cmake)
]])
write_basic_package_version_file(${PROJECT_BINARY_DIR}/latheConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(EXPORT lathe FILE latheTargets.cmake NAMESPACE lathe:: DESTINATION ${package})
install(FILES ${PROJECT_BINARY_DIR}/latheConfig.cmake ${PROJECT_BINARY_DIR}/latheConfigVersion.cmake
        DESTINATION ${package})
