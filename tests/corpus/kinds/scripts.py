"""Mail in the scripts of the world, all of it rightly written: UTF-8, encoded subjects, names."""

from .build import b64, mail, multipart, part, qp, word_b, word_q

# Name, script of the subject, sender's name, body.
LETTERS = [
    ("arabic", "اجتماع يوم الخميس", "ليلى حسن", "مرحباً،\n\nسنلتقي يوم الخميس في الساعة العاشرة.\n\nمع التحية\nليلى\n"),
    ("persian", "قرار ملاقات فردا", "مریم", "سلام، فردا ساعت ده می‌بینمت.\n"),
    ("urdu", "کل کی میٹنگ", "احمد", "السلام علیکم، کل ملتے ہیں۔\n"),
    ("hebrew", "פגישה ביום חמישי", "נועה לוי", "שלום,\n\nניפגש ביום חמישי בשעה 10:00.\n"),
    ("hindi", "गुरुवार की बैठक", "प्रिया शर्मा", "नमस्ते,\n\nहम गुरुवार को दस बजे मिलेंगे।\n"),
    ("bengali", "বৃহস্পতিবারের সভা", "অনিতা", "নমস্কার, বৃহস্পতিবার দশটায় দেখা হবে।\n"),
    ("tamil", "வியாழன் சந்திப்பு", "கவிதா", "வணக்கம், வியாழன் பத்து மணிக்கு சந்திப்போம்.\n"),
    ("telugu", "గురువారం సమావేశం", "లక్ష్మి", "నమస్కారం, గురువారం కలుద్దాం.\n"),
    ("thai", "นัดประชุมวันพฤหัสบดี", "สมชาย ใจดี", "สวัสดีครับ\n\nพบกันวันพฤหัสบดีเวลาสิบโมงเช้าครับ\n"),
    ("lao", "ນັດພົບວັນພະຫັດ", "ບຸນມີ", "ສະບາຍດີ ພົບກັນວັນພະຫັດ\n"),
    ("khmer", "ការប្រជុំថ្ងៃព្រហស្បតិ៍", "សុភា", "សួស្តី យើងជួបគ្នាថ្ងៃព្រហស្បតិ៍\n"),
    ("burmese", "ကြာသပတေးနေ့ အစည်းအဝေး", "အောင်", "မင်္ဂလာပါ\n"),
    ("chinese-simplified", "星期四的会议安排", "王小明", "您好：\n\n我们星期四上午十点在三楼会议室见面，讨论下个季度的计划。\n\n王小明\n"),
    ("chinese-traditional", "星期四的會議安排", "陳大文", "您好：\n\n我們星期四上午十點在三樓會議室見面，討論下一季的計劃。\n"),
    ("japanese", "木曜日の打ち合わせについて", "山田 太郎", "お世話になっております。山田です。\n\n木曜日の午前十時に会議室でお待ちしております。\n"),
    ("korean", "목요일 회의 안내", "김민수", "안녕하세요.\n\n목요일 오전 열 시에 회의실에서 뵙겠습니다.\n"),
    ("greek", "Συνάντηση την Πέμπτη", "Ελένη Παππά", "Γεια σας,\n\nθα συναντηθούμε την Πέμπτη στις δέκα.\n"),
    ("russian", "Встреча в четверг", "Анна Иванова", "Здравствуйте!\n\nВстречаемся в четверг в десять часов.\n"),
    ("ukrainian", "Зустріч у четвер", "Олена Шевченко", "Вітаю! Зустрічаємось у четвер о десятій. Їжак, ґанок.\n"),
    ("georgian", "შეხვედრა ხუთშაბათს", "ნინო", "გამარჯობა, ხუთშაბათს ათ საათზე.\n"),
    ("armenian", "Հանդիպում հինգշաբթի", "Անի", "Բարև, հանդիպենք հինգշաբթի։\n"),
    ("amharic", "የሐሙስ ስብሰባ", "አበበ", "ሰላም፣ ሐሙስ እንገናኛለን።\n"),
    ("mongolian", "ᠪᠠᠶᠠᠷᠲᠠᠢ", "ᠪᠠᠲᠤ", "ᠰᠠᠶᠢᠨ ᠤᠤ\n"),
    ("vietnamese", "Cuộc họp thứ Năm", "Nguyễn Thị Hương", "Chào anh, hẹn gặp anh lúc mười giờ sáng thứ Năm.\n"),
    ("turkish", "Perşembe toplantısı", "Gül Şahin", "Merhaba, perşembe günü saat onda. İĞŞ ığş.\n"),
    ("polish", "Spotkanie w czwartek", "Łukasz Żółć", "Cześć, widzimy się w czwartek o dziesiątej. Zażółć gęślą jaźń.\n"),
    ("icelandic", "Fundur á fimmtudag", "Þóra Sæmundsdóttir", "Hæ, sjáumst á fimmtudaginn klukkan tíu.\n"),
    ("cherokee", "ᎣᏏᏲ", "ᏣᎳᎩ", "ᎣᏏᏲ, ᏙᎯᏧ?\n"),
    ("emoji", "🍕 Thursday? 👩🏽‍💻👨‍👩‍👧", "🦊 Fox", "👍🏿 🏳️‍🌈 🇺🇳 1️⃣\n"),
    ("astral", "𝕸𝖆𝖙𝖍 𐍈 𠮷野家", "𝒜", "𠮷野家で会いましょう。 𐐀𐐁\n"),
]


def messages():
    for index, (name, subject, sender, body) in enumerate(LETTERS):
        word = word_b if index % 2 else word_q
        headers = [("Subject", word(subject)), ("From", f"{word(sender)} <{name}@corpus.test>")]
        plain = part([("Content-Type", "text/plain; charset=utf-8"), ("Content-Transfer-Encoding", "base64")], b64(body))
        if index % 3 == 0:
            headers += [("Content-Type", "text/plain; charset=utf-8"), ("Content-Transfer-Encoding", "quoted-printable")]
            yield name, mail(name, headers, qp(body))
        elif index % 3 == 1:
            direction = "rtl" if name in ("arabic", "persian", "urdu", "hebrew") else "ltr"
            html = f'<html dir="{direction}"><body><p>{body.strip()}</p></body></html>\n'
            headers.append(("Content-Type", "multipart/alternative; boundary=script"))
            yield name, mail(name, headers, multipart("script", [plain, part([("Content-Type", "text/html; charset=utf-8"), ("Content-Transfer-Encoding", "8bit")], html)]))
        else:
            headers += [("Content-Type", "text/plain; charset=utf-8"), ("Content-Transfer-Encoding", "8bit")]
            yield name, mail(name, headers, body)
