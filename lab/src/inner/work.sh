# What every inner VM does once its network is set up: `pings` is how often it tries to reach the other side, say() says a
# line of the lab's.
tries=0
until ping -c 1 -W 1 "$peer" >/dev/null 2>&1; do
	tries=$((tries + 1))
	if [ $tries = "$pings" ]; then break; fi
	sleep 0.1
done
if [ $tries = "$pings" ]; then say "ping $peer: failed"; else say "ping $peer: ok"; fi

if [ -n "$shell" ]; then
	sh -c "$shell"
	say "exec: exit $?"
fi
if [ "$wait" = yes ]; then
	# Until the other side has pinged, too: the tenth word of the second line is InEchos (RFC 1213).
	tries=0
	until [ "$(awk '$1 == "Icmp:" { n = $10 } END { print n }' /proc/net/snmp)" -gt 0 ] || [ $tries = 300 ]; do
		tries=$((tries + 1))
		sleep 0.1
	done
fi
sleep "$keep"
say "powering off"
