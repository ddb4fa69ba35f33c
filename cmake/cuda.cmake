# The CUDA back end: kernels/cuda by nvcc, and what of tensor/ and autograd/ knows of it. `make build CUDA=1` sets LATHE_CUDA.
find_program(CMAKE_CUDA_COMPILER nvcc HINTS $ENV{CUDA_HOME}/bin /usr/local/cuda/bin REQUIRED)
execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --version OUTPUT_VARIABLE nvcc_version)
string(REGEX MATCH "release ([0-9.]+)" nvcc_version "${nvcc_version}")
set(architectures "80-real;86-real;89-real;90-real;100-real;120")
if(CMAKE_MATCH_1 VERSION_LESS 12.8)
  set(architectures "80-real;86-real;89-real;90")  # it knows of none after them
endif()
set(LATHE_CUDA_ARCHITECTURES "${architectures}" CACHE STRING
    "images in the program, and PTX of the last for what comes after it")
set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})

# nvcc takes host compilers up to a version: a file of three lines tells before the build does, and in fewer words.
file(WRITE ${PROJECT_BINARY_DIR}/probe.cu "#include <optional>\n__global__ void probe(float* x) { *x = 1.0f; }\n")
execute_process(
  COMMAND ${CMAKE_CUDA_COMPILER} -ccbin ${CMAKE_CXX_COMPILER} -std=c++20 -c probe.cu -o probe.o
  WORKING_DIRECTORY ${PROJECT_BINARY_DIR} RESULT_VARIABLE result ERROR_VARIABLE error OUTPUT_QUIET)
if(result)
  string(REGEX MATCH "[^\n]*error[^\n]*" error "${error}")
  message(FATAL_ERROR "lathe: ${CMAKE_CUDA_COMPILER} does not compile with ${CMAKE_CXX_COMPILER} "
    "(${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}): ${error}\n"
    "  hint: CUDA 12.4 to 12.7 take GCC up to 13, 12.8 and 12.9 up to 14, 13 up to 15; CXX=g++-12 make build CUDA=1 chooses another")
endif()

set(CMAKE_CUDA_ARCHITECTURES ${LATHE_CUDA_ARCHITECTURES})
enable_language(CUDA)
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)  # that nvcc has it CMake 3.25 does not know
find_package(CUDAToolkit 12.4 REQUIRED)

# Once the modules are there.
function(lathe_add_cuda)
  file(GLOB cuda_kernels CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/cuda/*.cu)
  target_sources(lathe_kernels PRIVATE ${cuda_kernels})
  target_compile_options(lathe_kernels PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Werror all-warnings>")
  foreach(module tensor autograd)
    target_compile_definitions(lathe_${module} PRIVATE LATHE_CUDA=1)
  endforeach()
  target_include_directories(lathe_tensor SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  # The runtime is linked in, and looks for the driver when it is first called: the program starts on a machine without one.
  target_link_libraries(lathe_tensor PUBLIC CUDA::cudart_static)
endfunction()
