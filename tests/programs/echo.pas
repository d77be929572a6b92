{ echo serve ADDRESS PORT, echo ask HOST PORT: 8 MB there and back, half-close, and a port where nobody is.
  Free Pascal's own library calls the kernel itself. With -dLIBC the program is linked with libc all the same. }
program echo;
{$mode objfpc}{$H+}
uses {$ifdef LIBC}cthreads,{$endif} sockets, baseunix, sysutils, resolve;
const
  SIZE = 8000000;
var
  buf: array[0..65535] of byte;

procedure check(good: boolean; what: string);
begin
  if not good then begin
    writeln(what, ': error ', socketerror);
    halt(1);
  end;
end;

function endpoint(host: string; port: word): TInetSockAddr;
var
  names: THostResolver;
begin
  fillchar(result, sizeof(result), 0);
  result.sin_family := AF_INET;
  result.sin_port := htons(port);
  result.sin_addr := StrToNetAddr(host);
  if host[1] in ['0'..'9'] then exit;
  names := THostResolver.Create(nil);
  check(names.NameLookup(host), 'the name ' + host);
  result.sin_addr := names.NetHostAddress;
end;

procedure send(s, count: longint);
var
  done, n: longint;
begin
  done := 0;
  while done < count do begin
    n := fpsend(s, @buf[done], count - done, 0);
    check(n > 0, 'send');
    done := done + n;
  end;
end;

procedure serve(s: longint; at: TInetSockAddr);
var
  conn, n: longint;
  len: TSockLen;
begin
  check(fpbind(s, @at, sizeof(at)) = 0, 'bind');
  check(fplisten(s, 50) = 0, 'listen');
  fpsignal(SIGCHLD, SignalHandler(SIG_IGN));
  writeln('ready');
  flush(output);
  while true do begin
    len := sizeof(at);
    conn := fpaccept(s, @at, @len);
    check(conn >= 0, 'accept');
    if fpfork = 0 then begin
      writeln('peer ', NetAddrToStr(at.sin_addr), ' ');
      flush(output);
      repeat
        n := fprecv(conn, @buf, sizeof(buf), 0);
        check(n >= 0, 'recv');
        send(conn, n);
      until n = 0;
      halt(0);
    end;
    fpclose(conn);
  end;
end;

function wanted(at: longint): byte;
begin
  result := ((at mod 251) * 7 + at div 65536) mod 256;
end;

procedure ask(s: longint; far: TInetSockAddr);
var
  at: TInetSockAddr;
  len: TSockLen;
  done, n, i: longint;
begin
  check(fpconnect(s, @far, sizeof(far)) = 0, 'connect');
  len := sizeof(at);
  check(fpgetsockname(s, @at, @len) = 0, 'getsockname');
  write(NetAddrToStr(at.sin_addr), ' ');
  len := sizeof(at);
  check(fpgetpeername(s, @at, @len) = 0, 'getpeername');
  writeln(NetAddrToStr(at.sin_addr));
  flush(output);
  if fpfork = 0 then begin
    done := 0;
    while done < SIZE do begin
      n := sizeof(buf);
      if n > SIZE - done then n := SIZE - done;
      for i := 0 to n - 1 do buf[i] := wanted(done + i);
      send(s, n);
      done := done + n;
    end;
    check(fpshutdown(s, 1) = 0, 'shutdown');
    fpexit(0);
  end;
  done := 0;
  repeat
    n := fprecv(s, @buf, sizeof(buf), 0);
    check(n >= 0, 'recv');
    for i := 0 to n - 1 do check(buf[i] = wanted(done + i), 'other bytes');
    done := done + n;
  until n = 0;
  check(done = SIZE, 'less than was sent');
  far.sin_port := htons(1);
  if fpconnect(fpsocket(AF_INET, SOCK_STREAM, 0), @far, sizeof(far)) <> 0 then
    writeln('refused ', socketerror = ESysECONNREFUSED);
end;

var
  s: longint;
begin
  s := fpsocket(AF_INET, SOCK_STREAM, 0);
  check(s >= 0, 'socket');
  if paramstr(1) = 'serve' then
    serve(s, endpoint(paramstr(2), strtoint(paramstr(3))))
  else
    ask(s, endpoint(paramstr(2), strtoint(paramstr(3))));
end.
