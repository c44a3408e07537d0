    # Still outside of the environment: what the build host says of its network is handed to the programs that fetch,
    # in a file that goes when they are done. None of it is part of this tree or of what is built.
    network=$BUILDROOT$work/network
    mkdir -p "$BUILDROOT$work"
    (umask 077 && : > "$network")
    known='GOPROXY|GOSUMDB|GONOSUMDB|GOPRIVATE|GONOPROXY|GOINSECURE|GOVCS|GOAUTH|NUGET_[A-Za-z0-9_]+'
    known="$known|GIT_CONFIG_(COUNT|(KEY|VALUE)_[0-9]+)"
    known="$known|CARGO_(HTTP|NET|REGISTRY|REGISTRIES)_[A-Z0-9_]+"
    known="$known|HTTP_PROXY|HTTPS_PROXY|ALL_PROXY|NO_PROXY|http_proxy|https_proxy|all_proxy|no_proxy"
    {
        env
        cat /etc/tdxc/fetch.env 2> /dev/null || true
    } | while IFS= read -r line; do
        if [[ ${line%%=*} =~ ^($known)$ ]]; then
            printf 'export %s=%q\n' "${line%%=*}" "${line#*=}"
        fi
    done >> "$network"
    if [[ -f /etc/tdxc/ca-certificates.crt ]]; then
        install -m 0644 /etc/tdxc/ca-certificates.crt "$BUILDROOT$work/ca-certificates.crt"
        for name in SSL_CERT_FILE CURL_CA_BUNDLE GIT_SSL_CAINFO CARGO_HTTP_CAINFO; do
            echo "export $name=$work/ca-certificates.crt"
        done >> "$network"
    fi
    if [[ -e /etc/tdxc/offline ]]; then
        echo 'tdxc_offline=yes' >> "$network"
    fi
