"""A peer played by the test, message by message, as a release other than this one would speak."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from weave.mesh.v1 import mesh_pb2
from weave_gossip.link.framing import PlainStream, encode_message, read_message
from weave_gossip.link.greeting import greeting_digest

PATIENCE_S = 10


@dataclass
class ScriptedPeer:
    """Everything it says is bytes of the test's choice; it answers pings, as any peer must."""

    stream: PlainStream
    frames: asyncio.Queue[mesh_pb2.Frame] = field(default_factory=asyncio.Queue)
    reader: asyncio.Task[None] | None = None
    their_hello: mesh_pb2.Hello = field(default_factory=mesh_pb2.Hello)
    their_greeting: mesh_pb2.Greeting = field(default_factory=mesh_pb2.Greeting)
    verdict: mesh_pb2.Verdict = field(default_factory=mesh_pb2.Verdict)

    @classmethod
    async def dial(cls, port: int, greeting: bytes, hello: bytes) -> ScriptedPeer:
        """Goes through the handshake. `hello` lacks the digest, which depends on both greetings."""
        stream = PlainStream(*await asyncio.open_connection("127.0.0.1", port))
        self = cls(stream)
        stream.write(encode_message(greeting))
        theirs = await read_message(stream)
        self.their_greeting.ParseFromString(theirs)
        digest = mesh_pb2.Hello(greeting_digest=greeting_digest(greeting, theirs))
        # Of a field that comes twice the last one counts.
        stream.write(encode_message(hello + digest.SerializeToString()))
        self.their_hello.ParseFromString(await read_message(stream))
        self.verdict.ParseFromString(await read_message(stream))
        stream.write(encode_message(mesh_pb2.Verdict(accepted=True).SerializeToString()))
        self.reader = asyncio.ensure_future(self._read())
        return self

    def say(self, frame: mesh_pb2.Frame | bytes) -> None:
        data = frame if isinstance(frame, bytes) else frame.SerializeToString()
        self.stream.write(encode_message(data))

    async def hears(self, body: str) -> mesh_pb2.Frame:
        """The next frame with this body; others are passed over."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                frame = await self.frames.get()
                if frame.WhichOneof("body") == body:
                    return frame

    async def hears_document(self, topic: str) -> mesh_pb2.Document:
        """Waits for a document of a topic, asking for what is only announced."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                frame = await self.frames.get()
                wanted = [each.id for each in frame.announce.versions if each.id.topic == topic]
                if wanted:
                    self.say(mesh_pb2.Frame(want=mesh_pb2.Want(ids=wanted)))
                for document in frame.documents.documents:
                    if document.id.topic == topic:
                        return document

    async def leave(self) -> None:
        self.stream.abort()
        if self.reader is not None:
            await asyncio.wait({self.reader})
            self.reader.exception()

    async def _read(self) -> None:
        while True:
            frame = mesh_pb2.Frame()
            frame.ParseFromString(await read_message(self.stream))
            if frame.HasField("ping"):
                pong = mesh_pb2.Pong(nonce=frame.ping.nonce, state_digest=frame.ping.state_digest)
                self.say(mesh_pb2.Frame(pong=pong))
            self.frames.put_nowait(frame)
