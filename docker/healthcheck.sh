#!/bin/bash
# Whether the process lives; whether it can serve is asked by whoever sends it work (/readyz).
exec 3<>"/dev/tcp/127.0.0.1/${POSTRIDER_HTTP_LISTEN##*:}" || exit 1
printf 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
read -r -t 2 status <&3 && [[ $status == *" 200 "* ]]
