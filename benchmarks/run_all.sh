#!/usr/bin/env bash
# Makes the tables of docs/performance.md: each benchmark of speed in turn, what it prints into FOLDER/NAME.txt and its
# numbers into FOLDER/NAME.json. On two cores it takes less than 40 minutes. To bring the tables into the page:
#
#     benchmarks/run_all.sh FOLDER && python benchmarks/performance_page.py FOLDER
#
# With a device, such as cuda, it makes the tables of a GPU and no others; each has both sides from that machine:
#
#     benchmarks/run_all.sh FOLDER cuda && python benchmarks/performance_page.py FOLDER
#
# The other side of "before" is the commit below, checked out beside; where it is not in this clone (a shallow one, an
# archive), these benchmarks measure this checkout alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=$(realpath -m "${1:-performance}")
device=${2:-}
before_commit=3af2b96
mkdir -p "$folder"
export TQDM_DISABLE=1 PYTHONPATH="$PWD"

run() {
    local name=$1 start=$SECONDS
    shift
    echo "== $name: python benchmarks/$*"
    python benchmarks/"$@" --json "$folder/$name.json" | tee "$folder/$name.txt"
    echo "== $name: $((SECONDS - start)) s"
}

if [ -n "$device" ]; then
    python benchmarks/performance_page.py --machine > "$folder/gpu_machine.txt"
    run gpu_aligned_ssim aligned_ssim.py --num_pairs 1024 --device "$device"
    run gpu_nearest_neighbors nearest_neighbors.py --full --engines exact,IndexFlatIP --device "$device"
    run gpu_embedding embedding.py --num_base 4096 --num_shipped 2048 --rounds 1 --workers 14 --device "$device"
    run gpu_training_speed training_speed.py --workers 14 --num_subjects 200 --our_steps 1200 --every 3 --device "$device"
    run gpu_audit_speed audit_speed.py --devices "cpu,$device"
    exit
fi

before=()
checkout=$(mktemp -d)
trap 'git worktree remove --force "$checkout/before" 2>/dev/null || true; rm -rf "$checkout"' EXIT
if git worktree add --quiet --detach "$checkout/before" "$before_commit" 2>/dev/null; then
    before=(--before "$checkout/before")
else
    echo "commit $before_commit is not in this clone: nothing is compared with it"
fi

python benchmarks/performance_page.py --machine > "$folder/machine.txt"
cat "$folder/machine.txt"
run cold_start cold_start.py "${before[@]}"
run pairwise_ssim pairwise_ssim.py
run aligned_ssim aligned_ssim.py "${before[@]}"
run audit_speed audit_speed.py "${before[@]}"
run nearest_neighbors nearest_neighbors.py
run nearest_neighbors_full nearest_neighbors.py --full --engines exact,IndexFlatIP
run descriptor_index descriptor_index.py
run deduplication deduplication.py
run embedding embedding.py
run training_speed training_speed.py
run ranks ranks.py
run large_audit large_audit.py "$checkout/images" --training 1000 --synthetic 100
