# shellcheck shell=bash
# Pictures of pictures, made of GStreamer elements only. Sourced, after lib.sh.

# Pixels between two pictures.
GAP=4

# lay_on_picture PICTURE.png WIDTH HEIGHT PER_ROW FILE.png...: the files, scaled, row by row.
lay_on_picture() {
    local picture=$1 width=$2 height=$3 per_row=$4 sinks=() sources=() i=0 row file log
    shift 4
    for file in "$@"; do
        row=$((i / per_row))
        sinks+=("sink_$i::xpos=$((i % per_row * (width + GAP)))" "sink_$i::ypos=$((row * (height + GAP)))"
            "sink_$i::width=$width" "sink_$i::height=$height")
        sources+=(filesrc "location=$(gst_value "$file")" ! pngdec ! imagefreeze num-buffers=1 ! "sheet.sink_$i")
        i=$((i + 1))
    done
    log=$(mktemp)
    CLEANUP+=("$log")
    gst-launch-1.0 compositor name=sheet background=white "${sinks[@]}" ! videoconvert ! video/x-raw,format=RGB ! \
        pngenc snapshot=true ! filesink location="$(gst_value "$picture")" "${sources[@]}" >"$log" 2>&1 ||
        die "the frames cannot be laid on $picture" "$(grep -m 1 ERROR "$log")"
}
