# One switch for the whole build, third-party test code included: a half-instrumented program gives
# false reports under ThreadSanitizer.
if(SYNCYTE_SANITIZE)
    add_compile_options(-fsanitize=${SYNCYTE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
    add_link_options(-fsanitize=${SYNCYTE_SANITIZE})
endif()
