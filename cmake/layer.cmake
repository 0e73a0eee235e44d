# syncyte_layer(NAME [USES layer...] [LINKS library...])
#
# One folder of src/ as a static library. USES names the lower layers whose headers it may include; their
# include paths come through stage folders that hold one symbolic link each, so that a header of a layer
# not named is not found: a wrong include is a compile error. LINKS are private third-party libraries:
# nobody above sees their headers.
function(syncyte_layer name)
    cmake_parse_arguments(ARG "" "" "USES;LINKS" ${ARGN})
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${name}/*.cpp)
    set(stage ${CMAKE_BINARY_DIR}/stage/${name})
    file(MAKE_DIRECTORY ${stage})
    file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR}/${name} ${stage}/${name} SYMBOLIC)

    if(sources)
        add_library(syncyte_${name} STATIC ${sources})
        set(scope PUBLIC)
        target_link_libraries(syncyte_${name} PRIVATE syncyte_warnings ${ARG_LINKS})
    else()
        add_library(syncyte_${name} INTERFACE)
        set(scope INTERFACE)
    endif()
    target_include_directories(syncyte_${name} ${scope} ${stage})
    foreach(lower IN LISTS ARG_USES)
        target_link_libraries(syncyte_${name} ${scope} syncyte_${lower})
    endforeach()
endfunction()
