# shellcheck shell=bash
# How an install prefix is laid out: what stage and install share. Sourced.

# What bin/ holds.
# shellcheck disable=SC2034 # used by those who source this
PROGRAMS=(soraverify)

# plugin_libraries: the file name of each plugin of the workspace.
plugin_libraries() {
    local dir
    for dir in "$ROOT"/plugins/*/; do
        printf 'libgst%s.so\n' "$(basename "$dir")"
    done
}

# replace_file NEW FINAL: one rename, so that a program that has FINAL open
# keeps the old one; nothing where they are equal, so that GStreamer does not
# scan the plugin again.
replace_file() {
    if cmp -s "$1" "$2"; then
        rm -f "$1"
    else
        mv -f "$1" "$2"
    fi
}

# replace_dir NEW FINAL
replace_dir() {
    rm -rf "$2.old"
    if [ -e "$2" ] || [ -L "$2" ]; then mv -T "$2" "$2.old"; fi
    mv -T "$1" "$2"
    rm -rf "$2.old"
}

# write_env PREFIX: the file to be sourced. A sourced file cannot know its own
# place in every shell, so the place is written into it.
write_env() {
    local prefix
    prefix=$(single_quote "$1")
    printf '# To be sourced, by sh, bash, dash or zsh. GStreamer then finds the plugins here.\nsora_prefix=%s\n' \
        "$prefix" >"$1/.env.new"
    cat >>"$1/.env.new" <<'ENV'
case ":$PATH:" in
*":$sora_prefix/bin:"*) ;;
*) PATH=$sora_prefix/bin:$PATH; export PATH ;;
esac
# GStreamer ignores GST_PLUGIN_PATH where GST_PLUGIN_PATH_1_0 is set.
if [ -n "${GST_PLUGIN_PATH_1_0-}" ]; then
    case ":$GST_PLUGIN_PATH_1_0:" in
    *":$sora_prefix/lib/gstreamer-1.0:"*) ;;
    *) GST_PLUGIN_PATH_1_0=$sora_prefix/lib/gstreamer-1.0:$GST_PLUGIN_PATH_1_0; export GST_PLUGIN_PATH_1_0 ;;
    esac
else
    case ":${GST_PLUGIN_PATH-}:" in
    *":$sora_prefix/lib/gstreamer-1.0:"*) ;;
    *) GST_PLUGIN_PATH=$sora_prefix/lib/gstreamer-1.0${GST_PLUGIN_PATH:+:$GST_PLUGIN_PATH}; export GST_PLUGIN_PATH ;;
    esac
fi
unset sora_prefix
ENV
    replace_file "$1/.env.new" "$1/env"
}
