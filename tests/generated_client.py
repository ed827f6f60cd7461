"""Uses a client that openapi-python-client has made of openapi/postrider.json, as an integrator would.

    generated_client.py FOLDER SERVER KEY SHOP CUSTOMER

FOLDER holds the client as the package `postrider_client`; KEY reads, writes, sends, and administers the server.
"""

import http.server
import queue
import sys
import threading
import time

folder, server, key, shop, customer = sys.argv[1:6]
sys.path.insert(0, folder)

from postrider_client import AuthenticatedClient
from postrider_client.api.administration import add_account, add_domain, add_key, list_accounts, revoke_key
from postrider_client.api.events import add_webhook, list_events, remove_webhook, test_webhook
from postrider_client.api.messages import get_message, list_messages, update_message
from postrider_client.api.sending import get_send, send
from postrider_client.models import (
    MailAddress, MessagePatch, NewAccount, NewDomain, NewKey, NewSend, NewWebhook, ProblemDetails,
)
from standardwebhooks.webhooks import Webhook

client = AuthenticatedClient(base_url=f"{server}/api/v1", token=key)


def until(what, ask):
    for _ in range(600):
        if answer := ask():
            return answer
        time.sleep(0.05)
    raise SystemExit(f"did not happen: {what}")


def order(**more):
    return NewSend(
        from_=MailAddress(email=shop), to=[MailAddress(email=customer)], subject="Order 17", text="It comes.", **more
    )


# Events are posted here, and verified by a library that is not ours.
events = queue.Queue()


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        events.put(Webhook(hook.secret).verify(body, dict(self.headers)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments):
        pass


receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=receiver.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{receiver.server_port}/"
hook = add_webhook.sync(client=client, body=NewWebhook(url=url))
assert test_webhook.sync(hook.id, client=client).delivered is True
assert events.get(timeout=30)["type"] == "webhook.test"

# A message goes out, once.
sent = send.sync(client=client, body=order(tags=["order"]), idempotency_key="order-17")
again = send.sync(client=client, body=order(tags=["order"]), idempotency_key="order-17")
assert sent.id == again.id, (sent, again)
other = send.sync(client=client, body=order(), idempotency_key="order-17")
assert isinstance(other, ProblemDetails) and other.code == "idempotency_mismatch", other
status = until("delivered", lambda: (s := get_send.sync(sent.id, client=client)).recipients[0].status == "delivered" and s)
assert status.tags == ["order"], status

# The customer answers (the test does so), and the answer is read.
page = until("an answer", lambda: (p := list_messages.sync(client=client, mailbox="inbox", from_=customer)).messages and p)
message = get_message.sync(page.messages[0].id, client=client)
assert message.text.strip() == "When?", message
posted = []
while (event := events.get(timeout=30))["type"] != "message.received":
    posted.append(event)
assert [event["type"] for event in posted] == ["message.sent", "message.delivered"], posted
assert all(event["data"]["sendId"] == sent.id for event in posted), posted
assert event["data"]["messageId"] == message.id, (event, message)
log = list_events.sync(client=client)
assert [logged.id for logged in log.events] == [event["id"] for event in [*posted, event]], log
remove_webhook.sync_detailed(hook.id, client=client)
seen = update_message.sync(message.id, client=client, body=MessagePatch(seen=True))
assert seen.seen is True, seen

# A domain is administered.
domain = add_domain.sync(client=client, body=NewDomain(domain="generated.test"))
assert any(record.type_ == "MX" for record in domain.records), domain
add_account.sync(client=client, body=NewAccount(address="ops@generated.test", password="a password"))
accounts = list_accounts.sync(client=client, domain="generated.test").accounts
assert [account.address for account in accounts] == ["ops@generated.test"], accounts
made = add_key.sync(
    client=client,
    body=NewKey(login="ops@generated.test", name="ops", scopes=["admin"], domain="generated.test"),
)
ops = AuthenticatedClient(base_url=f"{server}/api/v1", token=made.key)
assert len(list_accounts.sync(client=ops).accounts) == 1
revoke_key.sync_detailed(made.id, client=client)
refused = list_accounts.sync(client=ops)
assert isinstance(refused, ProblemDetails) and refused.code == "unauthorized", refused
print("done")
