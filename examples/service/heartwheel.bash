# bash completion for heartwheel. Made from the program's own tables: BLESS=1 cargo test --test packaging
# shellcheck shell=bash

_heartwheel_words() { mapfile -t COMPREPLY < <(compgen "$@" -- "$word"); }

_heartwheel() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words='' index
    local keys='
            listen=
            admin_listen=
            workers=
            log=
            tick=
            unix.mode=
            unix.owner=
            turn.events=
            turn.bytes=
            deadlines.preset=
            deadlines.handshake=
            deadlines.body=
            deadlines.keep_alive=
            deadlines.read_idle=
            deadlines.message=
            deadlines.write_stall=
            deadlines.stream=
            deadlines.close_send=
            deadlines.close_ack=
            deadlines.handler=
            deadlines.lifetime=
            deadlines.drain=
            heartbeat.interval=
            heartbeat.jitter=
            heartbeat.pong=
            heartbeat.max_missed=
            heartbeat.adaptive=
            heartbeat.min=
            heartbeat.max=
            heartbeat.comment=
            limits.connections=
            limits.connections_per_ip=
            limits.handshakes_per_second=
            limits.head_bytes=
            limits.headers=
            limits.message_bytes=
            limits.fragments=
            limits.inbox_messages=
            limits.inbox_bytes=
            limits.timers=
            limits.outbox_bytes=
            limits.memory_bytes=
            limits.messages_per_second=
            limits.bytes_per_second=
            limits.rate_action=
            limits.send_per_second=
            limits.pings_per_second=
            limits.topics=
            limits.subscriptions=
            overflow.policy=
            proxy.trusted=
            proxy.forwarded=
            admission.origins=
            admission.hosts=
            admission.admin_hosts=
            admission.tokens=
            admission.takeover=
            admission.revoke=
            topics.retain_events=
            topics.retain_bytes=
            topics.retain_for=
            serve.files=
            watch.interval=
            watch.drift=
            watch.threshold=
            watch.dir=
            watch.snapshots=
            canary.percent=
            canary.key=
            canary.salt=
    '
    # bash makes a word of each `=`: what stands before it says what comes after.
    if [ "$word" = = ]; then
        word='' before=$before=
    elif [ "$before" = = ]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}=
    fi
    case $before in --*=) before=${before%=} ;; esac
    case $before in
        -c | --config) compopt -o filenames; _heartwheel_words -f; return ;;
        --set) words=$keys; compopt -o nospace ;;
        --listen) return ;;
        --admin-listen) return ;;
        --files) compopt -o filenames; _heartwheel_words -d; return ;;
        --workers) return ;;
        --log) words='off error warn info debug trace' ;;
        --flash) compopt -o filenames; _heartwheel_words -f; return ;;
        --token) return ;;
        --token-file) compopt -o filenames; _heartwheel_words -f; return ;;
        --ca) compopt -o filenames; _heartwheel_words -f; return ;;
        --cert) compopt -o filenames; _heartwheel_words -f; return ;;
        --key) compopt -o filenames; _heartwheel_words -f; return ;;
        --timeout) return ;;
        --after) return ;;
        --count) return ;;
        --for) return ;;
        log=) words='off error warn info debug trace' ;;
        deadlines.preset=) words='relaxed balanced strict' ;;
        heartbeat.adaptive=) words='true false' ;;
        limits.rate_action=) words='pause close' ;;
        overflow.policy=) words='close drop_newest drop_oldest latest' ;;
        proxy.forwarded=) words='off x-forwarded-for forwarded' ;;
        admission.takeover=) words='off probe newest' ;;
        admission.revoke=) words='keep close' ;;
        *=) return ;;
        *)
            if [[ $word == -* ]]; then
                words='-c --config --set --listen --admin-listen --files --workers --log -h --help -V --version --flash --token --token-file --ca --cert --key --timeout --after --json --count --for'
            else
                words='serve check print-config subscribe publish verdict'
                for ((index = 1; index < COMP_CWORD; index++)); do
                    case ${COMP_WORDS[index]} in serve | check | print-config | subscribe | publish | verdict) return ;; esac
                done
            fi
            ;;
    esac
    _heartwheel_words -W "$words"
}

complete -F _heartwheel heartwheel
